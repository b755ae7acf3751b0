"""Attacks: submissions that try to get in, to get out or to gain, and must not.

::

    table.py      what an attack is and what must be observed
    packing.py    archives and folders that no tree on disk could be
    running.py    one attack, graded as a hiring manager would grade it
    leftovers.py  what of this machine is not as it was before
    holding.py    what was observed against what must be
    evidence.py   one line per attack, level and caller; the table in docs/security.md
    campaign.py   all of them
"""
