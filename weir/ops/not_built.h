// The answer of an operator to a device whose kernels are not part of this build.
#pragma once

#include "weir/base/error.h"
#include "weir/tensor/tensor.h"

namespace weir::ops {

[[noreturn]] inline void not_built(const char* op, DeviceKind device) {
  fail(ErrorCode::kUnavailable, "not built: ", op, " on ",
       device == DeviceKind::kCuda  ? "cuda"
       : device == DeviceKind::kNpu ? "npu"
                                    : "cpu");
}

}  // namespace weir::ops
