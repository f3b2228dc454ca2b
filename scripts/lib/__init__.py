# SPDX-License-Identifier: MIT
"""What the scripts and the tests share."""
