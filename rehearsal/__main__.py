"""`python -m rehearsal`: first with the variables that it may see, and only then with the libraries that read them."""

import sys
from pathlib import Path

from rehearsal.variables import begin_anew

begin_anew("rehearsal", Path(__file__).resolve().parent.parent / "inventories")

from rehearsal.cli import main  # noqa: E402 -- libpq and others read variables when they are imported

sys.exit(main())
