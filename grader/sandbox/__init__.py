"""Submissions run in a sandbox: what they see, what they reach, what they may ask of the kernel, how much they get.

``seccomp`` the system calls that are refused · ``limits`` how much a service may use, and who holds it to that
(``control_groups`` the kernel, else ``memory_watch`` the grader).
"""
