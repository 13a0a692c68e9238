# SPDX-License-Identifier: Apache-2.0
"""The parts of bench/compare: machine, servers, tools, rows, table."""
