"""Experiments of lasg-flwr; ``python -m experiments --help`` lists the commands.

run.py          everything that determines one run: method, data, step sizes, seed
data/ tasks.py  data sets, and the models on them
methods.py training.py          how a run becomes a rule and oracles, and happens
compare.py codecs.py table.py   runs side by side; commands.py is their commands
reproduce/ configs/             the papers' figures, a TOML file each
plots/          all plots
benchmarks.py   speed and memory
dropin/         two plain Flower projects, and the diffs that make them lazy
client_app.py server_app.py     the Flower app at the root
"""
