#!/bin/sh
# Builds image targets of the Dockerfile, tagged by the commit: `make images` on a machine with a docker engine, and
# cloudbuild.yaml (docs/images.md). With PUSH=1 it pushes them to REPOSITORY and names them by digest in
# build/images.yaml, which `two-tower submit --images build/images.yaml` reads.
set -eu
cd "$(dirname "$0")/.."

TARGETS=${TARGETS:-prep train embed index}
REPOSITORY=${REPOSITORY:-}
PUSH=${PUSH:-}
COMMIT=${COMMIT:-}
IMAGES=build/images.yaml

fail() {
    echo "images: $*" >&2
    exit 1
}

case " $TARGETS " in
*" train "*"train-cuda "* | *"train-cuda "*" train "* | *" train-cuda train "*)
    fail "TARGETS: give train or train-cuda; both would be the image of the training steps"
    ;;
esac
if [ -n "$PUSH" ] && [ -z "$REPOSITORY" ]; then
    fail "PUSH=1 needs REPOSITORY=REGION-docker.pkg.dev/PROJECT/NAME"
fi
docker info >/dev/null 2>&1 || fail "no docker engine answers here. Start one; or build without one:" \
    "gcloud builds submit --config=cloudbuild.yaml (docs/images.md has the whole command)"
docker buildx version >/dev/null 2>&1 || fail "this docker has no buildx. Install its plug-in; or build without it:" \
    "gcloud builds submit --config=cloudbuild.yaml (docs/images.md has the whole command)"
if [ -z "$COMMIT" ]; then
    COMMIT=$(git rev-parse HEAD) || fail "no git checkout to read the commit from; give COMMIT=..."
    if [ -n "$(git status --porcelain)" ]; then
        [ -z "$PUSH" ] || fail "there are changes that are not committed, and a pushed image is named by its commit: commit them first"
        COMMIT=$COMMIT-changed
    fi
fi
VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)

mkdir -p build
rm -f "$IMAGES"
{
    echo "# Version $VERSION, commit $COMMIT"
    echo "images:"
} >"$IMAGES.part"
for target in $TARGETS; do
    name=${REPOSITORY:+$REPOSITORY/}two-tower-$target
    cache=$name:cache
    # Without provenance the digest is that of the image itself, not of an index that some services do not read.
    docker buildx build --target "$target" --platform linux/amd64 --provenance=false \
        --build-arg "TWO_TOWER_VERSION=$VERSION" \
        --build-arg "TWO_TOWER_COMMIT=$COMMIT" \
        ${SOURCE:+--build-arg "SOURCE=$SOURCE"} \
        ${RUN_AS:+--build-arg "RUN_AS=$RUN_AS"} \
        ${PYTHON_IMAGE:+--build-arg "PYTHON_IMAGE=$PYTHON_IMAGE"} \
        ${BEAM_IMAGE:+--build-arg "BEAM_IMAGE=$BEAM_IMAGE"} \
        ${CACHE:+--cache-from "type=registry,ref=$cache" --cache-to "type=registry,ref=$cache,mode=max"} \
        --tag "$name:$COMMIT" --metadata-file "build/$target.json" \
        "$([ -n "$PUSH" ] && echo --push || echo --load)" .
    digest=$(sed -n 's/.*"containerimage.digest": *"\(sha256:[0-9a-f]\{64\}\)".*/\1/p' "build/$target.json")
    if [ -n "$PUSH" ]; then
        [ -n "$digest" ] || fail "$target was pushed, but build/$target.json names no digest"
        echo "  ${target%-cuda}: $name@$digest" >>"$IMAGES.part"
    fi
done
if [ -z "$PUSH" ]; then
    rm "$IMAGES.part"
    echo "built, tagged by the commit $COMMIT; with PUSH=1 REPOSITORY=... they can be submitted"
else
    mv "$IMAGES.part" "$IMAGES"
    cat "$IMAGES"
fi
