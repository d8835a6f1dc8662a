"""Lists runs and pulls a checkpoint, knowing of Paceline nothing but an address.

    reflected.py HOST:PORT RUN FILE [CA TOKEN_FILE]

Health says that the server serves, reflection what its services and messages are; nothing is generated beforehand. Writes the
checkpoint of RUN to FILE, and one JSON object about what was found to standard output. With CA and TOKEN_FILE by TLS.
"""

import hashlib
import json
import sys

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def channel(address, ca=None, token_file=None):
    if ca is None:
        return grpc.insecure_channel(address)
    with open(ca, "rb") as file:
        tls = grpc.ssl_channel_credentials(file.read())
    with open(token_file, encoding="ascii") as file:
        token = grpc.access_token_call_credentials(file.read().strip())
    return grpc.secure_channel(address, grpc.composite_channel_credentials(tls, token))


class Service:
    """A service as the server describes it: `service("Method", field=value)` calls it."""

    def __init__(self, connection, pool, name):
        self.connection, self.described = connection, pool.FindServiceByName(name)

    def __call__(self, method, **fields):
        method = self.described.methods_by_name[method]
        kind = self.connection.unary_stream if method.server_streaming else self.connection.unary_unary
        call = kind(
            f"/{self.described.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        return call(GetMessageClass(method.input_type)(**fields), timeout=20)


def main(address, run, file, *credentials):
    connection = channel(address, *credentials)
    health = health_pb2_grpc.HealthStub(connection)
    serving = health.Check(health_pb2.HealthCheckRequest(service="paceline.v1.RunService"), timeout=20)

    database = ProtoReflectionDescriptorDatabase(connection)
    services = sorted(database.get_services())
    pool = DescriptorPool(database)
    runs = Service(connection, pool, "paceline.v1.RunService")
    checkpoints = Service(connection, pool, "paceline.v1.CheckpointService")

    # One run a page, to turn some.
    found, token = [], ""
    while True:
        page = runs("ListRuns", page_size=1, page_token=token)
        found += [json_format.MessageToDict(run, preserving_proto_field_name=True) for run in page.runs]
        token = page.next_page_token
        if not token:
            break

    info = checkpoints("GetCheckpoint", run=run).checkpoint
    content = b"".join(chunk.data for chunk in checkpoints("PullCheckpoint", run=run, outer_step=info.outer_step))
    assert hashlib.sha256(content).digest() == info.sha256, "the checkpoint arrived damaged"
    with open(file, "wb") as out:
        out.write(content)
    print(json.dumps({
        "health": health_pb2.HealthCheckResponse.ServingStatus.Name(serving.status),
        "services": services,
        "runs": found,
        "outer_step": info.outer_step,
        "size_bytes": len(content),
    }))


if __name__ == "__main__":
    main(*sys.argv[1:])
