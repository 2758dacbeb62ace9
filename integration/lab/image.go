// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// Image is the image that every host has: a static busybox with its applets and a page in /www. Its command idles
// until it gets SIGTERM.
const Image = "busybox"

// Page is the content of the image's /www/index.html.
const Page = "hello from weave\n"

const busybox = "/bin/busybox" // Debian's package busybox-static

// idle ends at once on SIGTERM. A plain sleep would not, since the kernel ignores SIGTERM for a first process without a
// handler.
const idle = "#!/bin/sh\ntrap 'exit 0' TERM\nwhile :; do sleep 3600 & wait $!; done\n"

// ImportImage imports the image into the host's Docker.
func (h *Host) ImportImage(t testing.TB) {
	t.Helper()
	image, err := imageTar()
	if err != nil {
		t.Fatalf("make the image: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := h.DockerCommand(ctx, "import", "--change", `CMD ["/bin/idle"]`, "-", Image)
	cmd.Stdin = bytes.NewReader(image)
	if _, err := output(cmd); err != nil {
		t.Fatal(err)
	}
}

// imageTar returns the image's file system as a tar archive.
var imageTar = sync.OnceValues(func() ([]byte, error) {
	binary, err := os.ReadFile(busybox)
	if err != nil {
		return nil, fmt.Errorf("%w (Debian has it in busybox-static)", err)
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list: %w", busybox, err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	var errs []error
	add := func(header tar.Header, content string) {
		header.Mode, header.Size = 0o755, int64(len(content))
		errs = append(errs, w.WriteHeader(&header))
		_, err := io.WriteString(w, content)
		errs = append(errs, err)
	}
	for _, dir := range []string{"bin", "etc", "proc", "root", "sys", "tmp", "var", "www"} {
		add(tar.Header{Name: dir + "/", Typeflag: tar.TypeDir}, "")
	}
	for name, content := range map[string]string{
		"bin/busybox":    string(binary),
		"bin/idle":       idle,
		"etc/passwd":     "root:x:0:0:root:/root:/bin/sh\n",
		"etc/group":      "root:x:0:\n",
		"www/index.html": Page,
	} {
		add(tar.Header{Name: name, Typeflag: tar.TypeReg}, content)
	}
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			add(tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, "")
		}
	}
	if err := errors.Join(append(errs, w.Close())...); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
})
