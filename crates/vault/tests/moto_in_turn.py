"""moto's S3 server, with one PUT at a time.

moto 5.2 looks whether the object of a conditional create is there, and stores it some lines later,
without a lock between (`moto/s3/responses.py`, `put_object`), in a server with a thread for each
request: of 16 plain HTTP clients that raced 300 times on a busy machine, two won once. A store that
the vault may use doesn't do that; so the test's server takes its PUTs in turn.

A bucket that locks its objects refuses a PUT without a checksum. S3 asks for Content-MD5 or any
x-amz-checksum header; moto 5.2 asks for x-amz-sdk-checksum-algorithm in the place of the second.
"""

import threading

from moto.s3.responses import S3Response
from moto.server import main
from werkzeug.datastructures import Headers

in_turn = threading.Lock()
plain_put_object = S3Response.put_object
plain_put_key = S3Response._key_response_put


def put_object(self):
    with in_turn:
        return plain_put_object(self)


def put_key(self, query, key_name):
    if "x-amz-checksum-sha256" in self.headers:
        self.headers = Headers(self.headers)
        self.headers["x-amz-sdk-checksum-algorithm"] = "SHA256"
    return plain_put_key(self, query, key_name)


S3Response.put_object = put_object
S3Response._key_response_put = put_key

if __name__ == "__main__":
    main()
