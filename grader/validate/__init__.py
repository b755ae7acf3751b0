"""Measure the grader: known flaws put back into the solution, one at a time, must bring down exactly their checks."""
