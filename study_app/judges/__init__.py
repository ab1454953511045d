"""Machine judges: vision-language models that answer a study's comparisons over HTTP, apart from people."""
