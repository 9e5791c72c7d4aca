"""A drill for on-call engineers: a table with one of ten faults, to be found and repaired in two minutes.

`python -m examples.on_call_drill --endpoint http://127.0.0.1:8000 --table drill`. Who wants to practise reads
docs/how-to/on-call.md, and none of these files: `faults.py` has the answers.
"""
