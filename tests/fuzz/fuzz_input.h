// What the fuzz targets share: the input as text, as a file of a model's directory, and errors that are expected.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "weir/base/check.h"
#include "weir/base/error.h"

namespace weir {

inline std::string_view text_of(const uint8_t* data, size_t size) { return {reinterpret_cast<const char*>(data), size}; }

// Whatever the input, weir answers or throws Error; any other exception ends the program.
template <class F>
void expect_answer_or_error(F&& f) {
  try {
    f();
  } catch (const Error&) {
  }
}

// A directory of the process, for readers that take one.
class ModelDir {
 public:
  ModelDir() : path_((std::filesystem::temp_directory_path() / "weir_fuzz_XXXXXX").string()) {
    WEIR_CHECK(::mkdtemp(path_.data()) != nullptr);
  }
  ~ModelDir() { std::filesystem::remove_all(path_); }
  ModelDir(const ModelDir&) = delete;
  ModelDir& operator=(const ModelDir&) = delete;

  const std::string& path() const { return path_; }
  void write(const char* file, std::string_view text) const { std::ofstream(path_ + "/" + file, std::ios::binary) << text; }

 private:
  std::string path_;
};

}  // namespace weir
