"""What is known of an answer: intervals for samples, cuts that promise a recall, agreement of readings, validation by people.

Pure arithmetic over labels and sizes: nothing here reads data, asks a model or knows a plan. Every promise is about what the
model would say, but for `validation`, which speaks of the truth that people saw. May import numpy and the errors.
"""
