"""The messages of a request to the Gemini API: the type of every field, every enumeration.

Fields that only Vertex AI has are left out. [ai.google.dev api pages; google-genai ``types``]
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: Field types are: a scalar of ``_SCALARS``, ``enum:NAME``, ``struct`` (any object), ``value``
#: (anything), the name of a message, ``[]T`` for a list of T and ``{}T`` for a map to T.
MESSAGES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "GenerateContentRequest": {
            "model": "string",
            "systemInstruction": "Content",
            "contents": "[]Content",
            "tools": "[]Tool",
            "toolConfig": "ToolConfig",
            "safetySettings": "[]SafetySetting",
            "generationConfig": "GenerationConfig",
            "cachedContent": "string",
            "serviceTier": "enum:ServiceTier",
            "continuationToken": "string",
            "store": "bool",
        },
        "CountTokensRequest": {
            "model": "string",
            "contents": "[]Content",
            "generateContentRequest": "GenerateContentRequest",
        },
        "EmbedContentRequest": {
            "model": "string",
            "content": "Content",
            "taskType": "enum:TaskType",
            "title": "string",
            "outputDimensionality": "int32",
            "embedContentConfig": "EmbedContentConfig",
        },
        "EmbedContentConfig": {
            "taskType": "enum:TaskType",
            "title": "string",
            "outputDimensionality": "int32",
        },
        "BatchEmbedContentsRequest": {"model": "string", "requests": "[]EmbedContentRequest"},
        "Content": {"role": "string", "parts": "[]Part"},
        "Part": {
            "text": "string",
            "inlineData": "Blob",
            "fileData": "FileData",
            "functionCall": "FunctionCall",
            "functionResponse": "FunctionResponse",
            "executableCode": "ExecutableCode",
            "codeExecutionResult": "CodeExecutionResult",
            "toolCall": "ToolCall",
            "toolResponse": "ToolResponse",
            "audioTranscription": "struct",
            "thought": "bool",
            "thoughtSignature": "bytes",
            "videoMetadata": "VideoMetadata",
            "mediaResolution": "PartMediaResolution",
            "mediaProcessing": "struct",
            "speechMetadata": "SpeechMetadata",
            "partMetadata": "struct",
        },
        "Blob": {"mimeType": "string", "data": "bytes"},
        "FileData": {"mimeType": "string", "fileUri": "string"},
        "FunctionCall": {"id": "string", "name": "string", "args": "struct"},
        "FunctionResponse": {
            "id": "string",
            "name": "string",
            "response": "struct",
            "parts": "[]FunctionResponsePart",
            "willContinue": "bool",
            "scheduling": "string",
        },
        "FunctionResponsePart": {"inlineData": "Blob", "fileData": "FileData"},
        "ExecutableCode": {"id": "string", "language": "string", "code": "string"},
        "CodeExecutionResult": {"id": "string", "outcome": "string", "output": "string"},
        "ToolCall": {"id": "string", "toolType": "string", "args": "struct"},
        "ToolResponse": {"id": "string", "toolType": "string", "response": "struct"},
        "VideoMetadata": {"startOffset": "string", "endOffset": "string", "fps": "float"},
        "PartMediaResolution": {"level": "enum:MediaResolution"},
        "SpeechMetadata": {"speaker": "string", "style": "string"},
        "Tool": {
            "functionDeclarations": "[]FunctionDeclaration",
            "googleSearch": "GoogleSearch",
            "googleSearchRetrieval": "struct",
            "urlContext": "Empty",
            "codeExecution": "Empty",
            "googleMaps": "struct",
            "fileSearch": "struct",
            "computerUse": "struct",
            "mcpServers": "[]struct",
        },
        "Empty": {},
        "GoogleSearch": {"timeRangeFilter": "struct", "searchTypes": "struct"},
        "FunctionDeclaration": {
            "name": "string",
            "description": "string",
            "parameters": "Schema",
            "parametersJsonSchema": "value",
            "response": "Schema",
            "responseJsonSchema": "value",
            "behavior": "string",
        },
        "Schema": {
            "type": "enum:Type",
            "format": "string",
            "title": "string",
            "description": "string",
            "nullable": "bool",
            "enum": "[]string",
            "items": "Schema",
            "minItems": "int64",
            "maxItems": "int64",
            "properties": "{}Schema",
            "minProperties": "int64",
            "maxProperties": "int64",
            "required": "[]string",
            "minLength": "int64",
            "maxLength": "int64",
            "pattern": "string",
            "minimum": "float",
            "maximum": "float",
            "anyOf": "[]Schema",
            "propertyOrdering": "[]string",
            "default": "value",
            "example": "value",
        },
        "ToolConfig": {
            "functionCallingConfig": "FunctionCallingConfig",
            "retrievalConfig": "RetrievalConfig",
            "includeServerSideToolInvocations": "bool",
        },
        "FunctionCallingConfig": {"mode": "enum:Mode", "allowedFunctionNames": "[]string"},
        "RetrievalConfig": {"latLng": "LatLng", "languageCode": "string"},
        "LatLng": {"latitude": "float", "longitude": "float"},
        "SafetySetting": {"category": "enum:HarmCategory", "threshold": "enum:HarmBlockThreshold"},
        "GenerationConfig": {
            "temperature": "float",
            "topP": "float",
            "topK": "int32",
            "maxOutputTokens": "int32",
            "stopSequences": "[]string",
            "candidateCount": "int32",
            "seed": "int32",
            "presencePenalty": "float",
            "frequencyPenalty": "float",
            "responseLogprobs": "bool",
            "logprobs": "int32",
            "responseMimeType": "string",
            "responseSchema": "Schema",
            "responseJsonSchema": "value",
            "responseFormat": "value",
            "responseModalities": "[]enum:Modality",
            "mediaResolution": "enum:MediaResolution",
            "speechConfig": "SpeechConfig",
            "thinkingConfig": "ThinkingConfig",
            "imageConfig": "ImageConfig",
            "enableEnhancedCivicAnswers": "bool",
            "audioTranscriptionConfig": "struct",
            "translationConfig": "struct",
        },
        "ThinkingConfig": {
            "includeThoughts": "bool",
            "thinkingBudget": "int32",
            "thinkingLevel": "enum:ThinkingLevel",
        },
        "ImageConfig": {"aspectRatio": "string", "imageSize": "string"},
        "SpeechConfig": {
            "voiceConfig": "VoiceConfig",
            "multiSpeakerVoiceConfig": "MultiSpeakerVoiceConfig",
            "languageCode": "string",
        },
        "VoiceConfig": {"prebuiltVoiceConfig": "PrebuiltVoiceConfig"},
        "PrebuiltVoiceConfig": {"voiceName": "string"},
        "MultiSpeakerVoiceConfig": {"speakerVoiceConfigs": "[]SpeakerVoiceConfig"},
        "SpeakerVoiceConfig": {"speaker": "string", "voiceConfig": "VoiceConfig"},
    }
)

_CATEGORIES = (
    "UNSPECIFIED",
    "HARASSMENT",
    "HATE_SPEECH",
    "SEXUALLY_EXPLICIT",
    "DANGEROUS_CONTENT",
    "CIVIC_INTEGRITY",
    "JAILBREAK",
    "IMAGE_HATE",
    "IMAGE_HARASSMENT",
)

#: Values of the enumerations. ``Type``, ``ThinkingLevel`` and ``Modality`` are sent in lower case
#: as well; the parsed request has them in upper case.
ENUMS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "ServiceTier": frozenset({"standard", "flex", "priority"}),
        "Mode": frozenset({"MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"}),
        "HarmCategory": frozenset(f"HARM_CATEGORY_{name}" for name in _CATEGORIES),
        "HarmBlockThreshold": frozenset(
            {
                "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
                "BLOCK_LOW_AND_ABOVE",
                "BLOCK_MEDIUM_AND_ABOVE",
                "BLOCK_ONLY_HIGH",
                "BLOCK_NONE",
                "OFF",
            }
        ),
        "Modality": frozenset({"MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO", "VIDEO"}),
        "MediaResolution": frozenset(
            f"MEDIA_RESOLUTION_{name}"
            for name in ("UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "ULTRA_HIGH")
        ),
        "TaskType": frozenset(
            {
                "TASK_TYPE_UNSPECIFIED",
                "RETRIEVAL_QUERY",
                "RETRIEVAL_DOCUMENT",
                "SEMANTIC_SIMILARITY",
                "CLASSIFICATION",
                "CLUSTERING",
                "QUESTION_ANSWERING",
                "FACT_VERIFICATION",
                "CODE_RETRIEVAL_QUERY",
            }
        ),
        "ThinkingLevel": frozenset(
            {"THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"}
        ),
        "Type": frozenset(
            {
                "TYPE_UNSPECIFIED",
                "STRING",
                "NUMBER",
                "INTEGER",
                "BOOLEAN",
                "ARRAY",
                "OBJECT",
                "NULL",
            }
        ),
    }
)

#: Enumerations whose case is ignored.
ANY_CASE = frozenset({"ThinkingLevel", "Type", "Modality"})

#: The payloads of a part; exactly one of them may be set.
PAYLOADS = tuple(MESSAGES["Part"])[:10]
