"""The functions behind both ``import freerea_seval`` and the command line, one module a task.

``configs`` writes and checks configs, ``runs`` searches and reads runs back, ``evaluator`` offers the objectives of a
config to other search engines, ``upstream`` puts them into FreeREA's own program, ``predictors`` trains and applies
predictors, ``measuring`` times networks, ``encoding`` writes networks as strings; ``documents`` is what programs read
of all this; ``arguments`` turns what a user may pass (a path, a name, an object) into objects. The command line imports
these modules; they import the rooms below (``runs``, ``sources``, ``predictor``, ``measurement``, ``strings``).
"""
