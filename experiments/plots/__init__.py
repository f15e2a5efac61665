"""Plots, built with matplotlib's objects and drawn with Agg: no pyplot, no display.

``style.py`` has colours, and a figure with its title, legend and caption;
``curves.py`` what falls or rises with rounds, uploads or bytes; ``comparison.py`` and
``studies.py`` the figures of the commands.
"""
