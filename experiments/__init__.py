"""The paper's evaluation, repeated and extended: tasks, algorithms, simulated federation, report."""
