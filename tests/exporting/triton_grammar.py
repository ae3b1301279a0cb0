"""The part of Triton's ``ModelConfig`` that ``config.pbtxt`` uses, as protobuf describes messages.

Names, numbers and types of the fields are those of model_config.proto of Triton Inference Server, as
tritonclient 2.73.0 carries it. That package asks for an older protobuf than the other libraries of the tests,
so it is no dependency of them; read by its own ModelConfig the file gave the same on 30 November 2026.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_FIELD = descriptor_pb2.FieldDescriptorProto
_STRING, _INT32, _INT64, _UINT64 = (
    _FIELD.TYPE_STRING,
    _FIELD.TYPE_INT32,
    _FIELD.TYPE_INT64,
    _FIELD.TYPE_UINT64,
)
_DATA_TYPES = {
    "TYPE_INVALID": 0,
    "TYPE_BOOL": 1,
    "TYPE_UINT8": 2,
    "TYPE_INT64": 9,
    "TYPE_FP16": 10,
    "TYPE_FP32": 11,
}
# message → field → (number, type or name of the message, whether it is repeated)
_MESSAGES: dict[str, dict[str, tuple[int, int | str, bool]]] = {
    "ModelInput": {
        "name": (1, _STRING, False),
        "data_type": (2, "DataType", False),
        "dims": (4, _INT64, True),
    },
    "ModelOutput": {
        "name": (1, _STRING, False),
        "data_type": (2, "DataType", False),
        "dims": (3, _INT64, True),
        "label_filename": (4, _STRING, False),
    },
    "ModelDynamicBatching": {
        "preferred_batch_size": (1, _INT32, True),
        "max_queue_delay_microseconds": (2, _UINT64, False),
    },
    "ModelConfig": {
        "name": (1, _STRING, False),
        "max_batch_size": (4, _INT32, False),
        "input": (5, "ModelInput", True),
        "output": (6, "ModelOutput", True),
        "dynamic_batching": (11, "ModelDynamicBatching", False),
        "backend": (17, _STRING, False),
    },
}


def read_model_config(text: str) -> Any:
    """Return a ``config.pbtxt`` as a message.

    Raises:
        google.protobuf.text_format.ParseError: It does not follow the grammar.
    """
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    kinds = file.enum_type.add(name="DataType")
    for name, number in _DATA_TYPES.items():
        kinds.value.add(name=name, number=number)
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, (number, kind, repeated) in fields.items():
            field = described.field.add(name=name, number=number)
            field.label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            if isinstance(kind, str):
                field.type = _FIELD.TYPE_ENUM if kind == "DataType" else _FIELD.TYPE_MESSAGE
                field.type_name = f".inference.{kind}"
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    config = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))
    return text_format.Parse(text, config())
