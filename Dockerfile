# The managed plugin's root file system, where images can be pulled:
#
#   docker build --build-arg VERSION=... --build-arg COMMIT=... --output build/plugin/rootfs .
#
# gives what `make plugin` makes from the Go toolchain and Debian's packages, with the same binaries for the same values.
# Both stages run on the builder's architecture and build for the target's.

FROM --platform=$BUILDPLATFORM golang:1.26.8-trixie AS binaries
ENV GOTOOLCHAIN=local
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETARCH VERSION COMMIT
RUN make build ARCH=$TARGETARCH BIN=/out VERSION=$VERSION COMMIT=$COMMIT

FROM --platform=$BUILDPLATFORM debian:trixie-slim AS tools
COPY plugin/packaging/rootfs.sh /
ARG TARGETARCH
RUN /rootfs.sh /out $TARGETARCH /cache

FROM scratch
COPY --from=tools /out /
COPY --from=binaries /out /
ENTRYPOINT ["/weave", "serve", "--managed"]
