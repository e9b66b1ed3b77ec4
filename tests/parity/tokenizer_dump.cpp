// tokenizer_dump DIR: encodes texts from stdin, writes ids and decoded texts to stdout, for test_tokenizer.py.
// In, per text: uint8 kind (0 plain text, 1 text with added tokens, 2 int32 ids to decode), uint32 size, bytes. Out, per text: uint32 n,
// n int32 ids, then twice (skip_special off, on): uint32 size, bytes of decode(). The program fails when the same ids through a
// Detokenizer give another text. All little endian.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "weir/base/error.h"
#include "weir/text/detokenizer.h"
#include "weir/text/tokenizer.h"

namespace {

template <class T>
bool read(T& value) {
  return static_cast<bool>(std::cin.read(reinterpret_cast<char*>(&value), sizeof value));
}

void write(const void* data, size_t bytes) { std::cout.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes)); }

void write_size(size_t n) {
  const auto size = static_cast<uint32_t>(n);
  write(&size, sizeof size);
}

int dump(const std::string& dir) {
  const auto tokenizer = weir::Tokenizer::load(dir);
  uint32_t size;
  uint8_t kind;
  std::string text;
  std::vector<int32_t> ids;
  while (read(kind)) {
    if (!read(size)) weir::fail(weir::ErrorCode::kInvalidArgument, "stdin ends inside a text");
    text.resize(size);
    if (!std::cin.read(text.data(), size)) weir::fail(weir::ErrorCode::kInvalidArgument, "stdin ends inside a text");
    if (kind == 2) {
      ids.resize(size / sizeof(int32_t));
      std::memcpy(ids.data(), text.data(), ids.size() * sizeof(int32_t));
    } else {
      ids = tokenizer->encode(text, kind == 1);
    }
    write_size(ids.size());
    write(ids.data(), ids.size() * sizeof ids[0]);
    for (const bool skip_special : {false, true}) {
      const std::string whole = tokenizer->decode(ids, skip_special);
      weir::Detokenizer detokenizer(tokenizer, skip_special);
      std::string pieces;
      for (const int32_t id : ids) pieces += detokenizer.push(id);
      pieces += detokenizer.finish();
      if (pieces != whole) weir::fail(weir::ErrorCode::kInternal, "pieces joined differ from decode(): ", pieces, " | ", whole);
      write_size(whole.size());
      write(whole.data(), whole.size());
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 2) weir::fail(weir::ErrorCode::kInvalidArgument, "usage: tokenizer_dump DIR < texts");
    std::ios::sync_with_stdio(false);
    return dump(argv[1]);
  } catch (const weir::Error& e) {
    std::fprintf(stderr, "tokenizer_dump: %s\n", e.what());
    return 1;
  }
}
