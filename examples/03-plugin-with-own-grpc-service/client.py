"""A client that knows nothing of the service: it asks the daemon for it by reflection and calls it.

    python client.py unix:/var/lib/hypersdk/hypersdkd.sock example.retention.v1.RetentionService/PlanRetention \\
        '{"times": ["2026-03-01T02:00:00Z"], "keep_daily": 1}'

Any generic client does the same: grpcurl, grpcui, Postman.
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc


def ask(stub, **question):
    request = reflection_pb2.ServerReflectionRequest(**question)
    return next(iter(stub.ServerReflectionInfo(iter([request]))))


def services(channel):
    """Names of the services that the daemon has now."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    return [service.name for service in ask(stub, list_services="").list_services_response.service]


def call(channel, path, request, timeout=30, metadata=None):
    """The answer of `package.Service/Method` to `request`, both as JSON."""
    service_name, _, method_name = path.partition("/")
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    answer = ask(stub, file_containing_symbol=service_name)
    if answer.HasField("error_response"):
        raise LookupError(f"the daemon has no service {service_name}")
    pool = descriptor_pool.DescriptorPool()
    files = map(descriptor_pb2.FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
    for file in _in_order({file.name: file for file in files}):
        pool.Add(file)
    method = pool.FindServiceByName(service_name).FindMethodByName(method_name)
    request_class = message_factory.GetMessageClass(method.input_type)
    response_class = message_factory.GetMessageClass(method.output_type)
    rpc = channel.unary_unary(
        f"/{path}", request_serializer=request_class.SerializeToString, response_deserializer=response_class.FromString
    )
    message = json_format.ParseDict(request, request_class())
    return json_format.MessageToDict(rpc(message, timeout=timeout, metadata=metadata), preserving_proto_field_name=True)


def _in_order(files):
    done = {}

    def add(name):
        if name not in done and name in files:
            for needed in files[name].dependency:
                add(needed)
            done[name] = files[name]

    for name in files:
        add(name)
    return done.values()


if __name__ == "__main__":
    with grpc.insecure_channel(sys.argv[1]) as opened:
        print(json.dumps(call(opened, sys.argv[2], json.loads(sys.argv[3])), indent=2))
