"""The paper's figures and tables, made anew: ``python -m experiments reproduce``.

A study is a TOML file in ``experiments/configs``: what runs on which data, with how
many seeds. How it becomes CSV and plots:

    config.py    reads and checks a TOML file: a `Study`
    job.py       one method with one seed: a `Job`; everything that determines it
    store.py     runs a job once and keeps the result, under a hash of the job
    grid.py      learning rates by grid search, through the same store
    curves.py    loss against iterations, uploads, bits: runs.csv, curves.csv, plots
    plot.py      the plots of curves
    command.py   the command, its progress and its errors

A study that is not about curves names a module of its own (`table1`, `theorems`,
`claims`, `peers`). A module has two functions: ``planned(study)``, how many results it
will ask the store for, and ``produce(study, store, out)``, which writes into `out`.
A new figure is a TOML file, and a module only if it draws something new.
"""
