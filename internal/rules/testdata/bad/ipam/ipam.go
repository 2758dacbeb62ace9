// SPDX-License-Identifier: Apache-2.0

// Package ipam imports its neighbour.
package ipam

import _ "github.com/weaveplugin/weave/driver"
