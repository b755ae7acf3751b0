"""Submissions run in a sandbox: what they see, what they reach, what they may ask of the kernel, how much they get.

``levels`` which sandbox a run has, ``probe`` whether it works · ``strong`` services in bubblewrap: ``ground`` and
``network`` what they stand on, ``bubblewrap`` what they see, ``process`` their processes · ``seccomp`` the system calls
that are refused, by the numbers in ``system_calls`` · ``limits`` how much they may use, and who holds them to that:
the kernel with ``control_groups``, else the grader with ``memory_watch`` · ``kernel`` calls that Python has no name for.
"""
