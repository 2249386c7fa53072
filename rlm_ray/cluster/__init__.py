"""The ports of the recursion, on Ray. Everything that imports ray is here."""

import warnings

# tqdm, which Ray imports, fills a red box in a notebook without ipywidgets; nothing here needs them
warnings.filterwarnings("ignore", message="IProgress not found")
