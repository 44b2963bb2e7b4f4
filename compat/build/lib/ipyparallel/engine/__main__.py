import sys

from covey.engine import main

sys.exit(main())
