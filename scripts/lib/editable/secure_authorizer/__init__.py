# SPDX-License-Identifier: MIT
"""What ``pip install -e .`` puts on the path: the package in this checkout.

Its modules are the checkout's own files, so ``secure_authorizer.authorizer`` is authorizer.py as it
is now. The wheel has no such file; it holds authorizer.py itself.
"""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[4])]
