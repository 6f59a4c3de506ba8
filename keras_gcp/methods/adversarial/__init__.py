"""Adversarial fine-tuning with a rate that starts slowly and decays fast, after Jeddi et al., 2020.

- `attack`: projected gradient ascent on the loss, with regard to inputs.
- `training`: the callback that trains on such examples.
- `schedule`: the learning rate.
- `robustness`: the accuracy that is left under attack.
"""
