"""``python -m quintile_embedded``: see ``up``."""

import sys

from quintile_embedded import up

sys.exit(up.main())
