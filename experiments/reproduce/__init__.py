"""The papers' figures and tables, made anew: ``python -m experiments reproduce``.

A study is a TOML file in ``experiments/configs``: what runs on which data, with how
many seeds. How it becomes CSV and plots:

    command.py      the command, its progress and its errors
    config.py       reads and checks a TOML file: a `Study`
    job.py          one method with one seed: a `Job`, and how it is run
    store.py        runs a job once and keeps the result, under a hash of the job
    grid.py         learning rates by grid search, through the same store
    synthetic.py, network_data.py   data that only studies have

What a study's key ``module`` may name, each with two functions: ``planned(study)``, how
many results it will ask the store for, and ``produce(study, store, out)``, which writes
into `out`:

    curves          loss and accuracy against iterations, uploads, bits (the default)
    peers           curves, and a ranking by bytes
    workers         uploads to a target for several numbers of workers (Figures 6, 7)
    appendix        curves, lemmas and rate of sparse local SGD
    table1          who holds, sends and computes how much; table1_plot.py
    theorems        theory.py and bounds.py state them, theorem_runs.py measures them,
                    theorems_plot.py draws both
    claims          sentences of the papers, against the CSV files of the others

``tables.py`` writes CSV, ``summary.py`` the table for reading, ``axes.py`` and
``plot.py`` the plots. A new figure is a TOML file, and a module only if it shows
something new.

Keys of a study, beside those that `Study` and `RunSpec` explain: ``like = "fig8"``
takes every table and key of that file that the study does not have itself, ``[quick]``
changes some of them for the small version, and ``options`` are the module's own.
"""
