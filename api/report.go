// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"io"
	"net/url"
)

// PathReport is where a report is requested; its answer is a stream of a compressed tar.
const PathReport = "/v1/report"

// Report writes an archive for a report of a fault to w, a compressed tar: versions, settings, what weave tracks, what
// the kernel has, the end of the log. Only root can do that.
func (c *Client) Report(ctx context.Context, w io.Writer) error {
	return c.stream(ctx, w, url.URL{Path: PathReport}, nil)
}
