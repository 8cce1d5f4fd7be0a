"""The names of what is exported, pinned to one version of OpenTelemetry's conventions.

Version 1.41.1 is the last release of the semantic conventions that holds those for generative AI;
since then they live in a repository of their own, which has released nothing yet. All of them are
*in development*: a change of a name here is a change of what dashboards read.
"""

from __future__ import annotations

#: What the spans say that their names are from.
SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.1"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
CONVERSATION = "gen_ai.conversation.id"
WORKFLOW = "gen_ai.workflow.name"
AGENT_ID, AGENT_NAME = "gen_ai.agent.id", "gen_ai.agent.name"
REQUEST_MODEL, RESPONSE_MODEL = "gen_ai.request.model", "gen_ai.response.model"
STREAM = "gen_ai.request.stream"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS, OUTPUT_TOKENS = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
TOOL_NAME, TOOL_TYPE = "gen_ai.tool.name", "gen_ai.tool.type"
TOOL_CALL_ID = "gen_ai.tool.call.id"
EVALUATION = "gen_ai.evaluation.result"
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_LABEL = "gen_ai.evaluation.score.label"
EVALUATION_WHY = "gen_ai.evaluation.explanation"
ERROR_TYPE = "error.type"

# With ``--content`` alone.
SYSTEM = "gen_ai.system_instructions"
INPUT, OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
TOOL_ARGUMENTS, TOOL_RESULT = "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"

CHAT, INVOKE_AGENT = "chat", "invoke_agent"
EXECUTE_TOOL, INVOKE_WORKFLOW = "execute_tool", "invoke_workflow"

#: What the conventions have no word for: where in the journal it is, and what it cost there.
OURS = "manyhands."

#: The kind of models by the form of their name; all else is a server with OpenAI's protocol.
_PROVIDERS = {
    "hf": "huggingface",
    "ollama": "ollama",
    "vllm": "vllm",
    "gguf": "llama.cpp",
    "script": "script",
}


def provider_of(model: str) -> str:
    """The journal keeps what a model is called, and not the address of its server."""
    if model == "scripted":
        return "script"
    return _PROVIDERS.get(model.partition(":")[0], "openai_compatible")
