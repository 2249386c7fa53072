"""The handle that root code and people hold: `Corpus`, its verbs, and the plans behind them.

Everything that root code's process may import of the package is here, beside `errors`. These modules import the standard
library, each other and `errors`; they read no data and call no model.
"""
