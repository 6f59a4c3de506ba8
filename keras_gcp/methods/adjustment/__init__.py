"""Network Adjustment: widths go up and down at equal multiply-adds, after Chen et al., 2020.

- `utilization`: what each layer makes of its multiply-adds, measured by `dropping` its channels;
  `utilization_result`: what comes of that.
- `layers`: networks built to widths; `warm_start`: weights of one for the next.
- `search`: what users call; `result`: its rounds.
"""
