// SPDX-License-Identifier: Apache-2.0

package driver

import "golang.org/x/sys/unix"

var _ = unix.Setns // a test may
