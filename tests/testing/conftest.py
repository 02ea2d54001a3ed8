from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("unhurried", deadline=None)  # a loaded machine is no failure
hypothesis.settings.load_profile("unhurried")
