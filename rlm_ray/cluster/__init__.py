"""Everything that imports Ray: ports, tasks, futures, the shared limiter, metrics, and Ray's jobs.

Imports `worker` and the recursion; nothing below imports it.
"""

import warnings

# tqdm, which Ray imports, fills a red box in a notebook without ipywidgets; nothing here needs them
warnings.filterwarnings("ignore", message="IProgress not found")
