"""Writes the test vectors, ddpm_np/testing/vectors/v1: expected values in 40 digits, by the formulas.

Nothing here imports ddpm_np: each function is derived once more, briefly, with mpmath.

python -m tests.vectors                    write all files, byte for byte the same each time
python -m tests.vectors q_sample q_step    these functions alone, and the index
python -m tests.vectors --check            write nothing; exit 1 if a file differs
"""
