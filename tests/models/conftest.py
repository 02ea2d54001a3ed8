from __future__ import annotations

import hypothesis
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("unhurried", deadline=None)  # a loaded machine is no failure
hypothesis.settings.load_profile("unhurried")
