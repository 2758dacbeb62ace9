// SPDX-License-Identifier: Apache-2.0

// Package api imports what it may not.
package api

import (
	_ "net/http" // of the standard library: may be imported

	_ "github.com/sirupsen/logrus"
	_ "github.com/weaveplugin/weave/internal/mac"
)
