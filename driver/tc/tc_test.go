// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"testing"
)

func TestLoad(t *testing.T) {
	p := Load(t.Context())
	if err := p.Problem(); err != nil {
		t.Fatal(err)
	}
	t.Log(len(p.files))
}
