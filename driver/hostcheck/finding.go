// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"fmt"

	"github.com/weaveplugin/weave/api"
)

func ok(format string, args ...any) api.HostFinding {
	return api.HostFinding{Result: api.CheckOK, Evidence: fmt.Sprintf(format, args...)}
}

func unknown(format string, args ...any) api.HostFinding {
	return api.HostFinding{Result: api.CheckUnknown, Evidence: fmt.Sprintf(format, args...)}
}

func warning(advice, format string, args ...any) api.HostFinding {
	return api.HostFinding{Result: api.CheckWarning, Evidence: fmt.Sprintf(format, args...), Advice: advice}
}

func failed(advice, format string, args ...any) api.HostFinding {
	return api.HostFinding{Result: api.CheckFailed, Evidence: fmt.Sprintf(format, args...), Advice: advice}
}
