// Package ipam imports its neighbour.
package ipam

import _ "github.com/weaveplugin/weave/driver"
