"""The pure part stays fast enough to run at every save."""

from __future__ import annotations

import gc

# Collecting a thousand tests makes many objects that stay; looking for garbage among them again and
# again is an eighth of the whole time.
gc.set_threshold(50_000, 20, 100)
