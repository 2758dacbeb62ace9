// SPDX-License-Identifier: Apache-2.0

package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed files
var embedded embed.FS

// types are the content types by extension. They don't depend on what the host has in /etc/mime.types.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".mjs":  "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	"":      "text/plain; charset=utf-8", // licenses
}

// file answers with a file. A browser keeps it, and asks each time whether it is still the same.
type file struct {
	name, contentType, tag string
	content                []byte
}

// load returns the files by the path that they are served at.
func load() map[string]file {
	files := map[string]file{}
	err := fs.WalkDir(embedded, "files", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		at := strings.TrimPrefix(name, "files")
		if at == "/index.html" {
			at = "/{$}" // this path alone
		}
		files[at] = file{
			name: name, contentType: types[path.Ext(name)], content: content,
			tag: `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`,
		}
		return nil
	})
	if err != nil {
		panic("the page's files are part of the binary: " + err.Error())
	}
	return files
}

// ServeHTTP answers one request.
func (f file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", f.contentType)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", f.tag)
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.content))
}
