"""``python -m batch_cancel`` is the same program as ``batch-cancel``."""

from batch_cancel.cli import main

if __name__ == "__main__":
    main()
