#include "weir/nn/packed_cache.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>

#include "weir/base/error.h"
#include "weir/base/json.h"
#include "weir/nn/mapped_weights.h"
#include "weir/tensor/tensor.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

void write(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

std::string some_bytes(size_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::string out(count, '\0');
  for (char& c : out) c = static_cast<char>(rng());
  return out;
}

// A model directory, and a directory for what is packed of it.
class PackedCacheTest : public ::testing::Test {
 protected:
  PackedCacheTest() : root_(fs::temp_directory_path() / ("weir-packed-cache-" + std::to_string(::getpid()))), model_(root_ / "model") {
    fs::remove_all(root_);
    fs::create_directories(model_);
    write(model_ / "config.json", "{}");
    write_shard("{\"a\":1}", some_bytes(100, 1));
  }
  ~PackedCacheTest() override { fs::remove_all(root_); }

  void write_shard(const std::string& header, const std::string& data) {
    const uint64_t length = header.size();
    std::string bytes(sizeof length, '\0');
    std::memcpy(bytes.data(), &length, sizeof length);
    write(model_ / "model.safetensors", bytes + header + data);
  }

  std::unique_ptr<PackedCache> open(const std::string& variant = "BF16") {
    return std::make_unique<PackedCache>((root_ / "packed").string(), model_.string(), variant, PackedCache::Large::kMap);
  }
  // What a start does: takes what is there, makes and keeps the rest. -> how many of the two were read.
  int start(const std::string& variant = "BF16") {
    const auto cache = open(variant);
    path_ = cache->path();
    int read = 0;
    for (const auto& [key, bytes] : weights_) {
      std::string got(bytes.size(), '\0');
      if (cache->read(pool_, key, std::as_writable_bytes(std::span(got)))) {
        EXPECT_EQ(got, bytes) << key;
        ++read;
      } else {
        cache->keep(pool_, key, std::as_bytes(std::span(bytes)));
      }
    }
    cache->finish();
    return read;
  }
  size_t num_files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(root_ / "packed"), fs::directory_iterator()));
  }

  const fs::path root_, model_;
  ThreadPool pool_{2, /*pin=*/false};
  const std::map<std::string, std::string> weights_ = {{"large", some_bytes((9 << 20) + 5, 2)}, {"small", some_bytes(37, 3)}};
  std::string path_;
};

TEST_F(PackedCacheTest, TheSecondStartReadsWhatTheFirstHasKept) {
  EXPECT_EQ(start(), 0);
  EXPECT_EQ(start(), 2);
  EXPECT_EQ(start(), 2);
  EXPECT_EQ(num_files(), 1u);
}

TEST_F(PackedCacheTest, WhatWasMadeOfAnotherModelIsReplaced) {
  start();
  const auto time = fs::last_write_time(model_ / "model.safetensors");
  write_shard("{\"a\":2}", some_bytes(100, 1));
  fs::last_write_time(model_ / "model.safetensors", time);
  EXPECT_EQ(start(), 0) << "another header of the same size and time";
  EXPECT_EQ(start(), 2);
  fs::last_write_time(model_ / "model.safetensors", time + std::chrono::seconds(1));
  EXPECT_EQ(start(), 0) << "another time";
  EXPECT_EQ(start(), 2);
  write_shard("{\"a\":2}", some_bytes(101, 1));
  EXPECT_EQ(start(), 0) << "another size";
  write(model_ / "config.json", "{\"b\": 1}");
  EXPECT_EQ(start(), 0) << "another configuration";
  EXPECT_EQ(start(), 2);
  EXPECT_EQ(num_files(), 1u) << "one file for all states of a model";
  EXPECT_EQ(start("F32"), 0);
  EXPECT_EQ(num_files(), 2u) << "variants stand beside each other";
  EXPECT_EQ(start(), 2);
}

TEST_F(PackedCacheTest, ADamagedFileIsNoticedWhereverItIsDamaged) {
  start();
  const std::string good = read_file(path_);
  std::mt19937 rng(5);
  for (int round = 0; round < 120; ++round) {
    std::string bad = good;
    // Weights, and the index and trailer behind the last multiple of 4,096; padding behind weights may change without harm.
    const size_t tail = good.size() % 4096;
    const size_t at = round % 2 == 0 ? rng() % (9 << 20) : good.size() - 1 - rng() % tail;
    bad[at] = static_cast<char>(bad[at] ^ (1 << rng() % 8));
    write(path_, bad);
    EXPECT_LT(start(), 2) << "byte " << at << " of " << good.size();
    while (start() < 2) {
    }
  }
}

TEST_F(PackedCacheTest, ATruncatedOrForeignFileIsWrittenAnew) {
  start();
  const std::string good = read_file(path_);
  for (const size_t size : {size_t{0}, size_t{10}, good.size() / 2, good.size() - 1}) {
    write(path_, good.substr(0, size));
    EXPECT_EQ(start(), 0) << size << " bytes";
    EXPECT_EQ(start(), 2);
  }
  write(path_, good + "x");
  EXPECT_EQ(start(), 0) << "a longer one";
  fs::remove(path_);
  fs::create_directory(path_);
  EXPECT_EQ(start(), 0) << "a directory in its place; nothing can be kept";
}

TEST_F(PackedCacheTest, IndexThatLiesAboutSizesIsRefused) {
  start();
  std::string bad = read_file(path_);
  for (size_t back = 8; back <= 40; back += 8) {  // the numbers of the trailer, one by one
    std::string lying = bad;
    const uint64_t huge = ~uint64_t{0} - 7;
    std::memcpy(lying.data() + lying.size() - back, &huge, sizeof huge);
    write(path_, lying);
    EXPECT_EQ(start(), 0) << back;
    EXPECT_EQ(start(), 2);
  }
}

TEST_F(PackedCacheTest, AKeyOfAnotherSizeIsNotThere) {
  start();
  const auto cache = open();
  ASSERT_TRUE(cache->reading());
  std::string got(36, '\0');
  EXPECT_FALSE(cache->read(pool_, "small", std::as_writable_bytes(std::span(got))));
  EXPECT_FALSE(cache->reading());
}

TEST_F(PackedCacheTest, TwoServersMayWriteAtOnce) {
  const auto first = open(), second = open();
  for (const auto& [key, bytes] : weights_) {
    first->keep(pool_, key, std::as_bytes(std::span(bytes)));
    second->keep(pool_, key, std::as_bytes(std::span(bytes)));
  }
  EXPECT_EQ(num_files(), 2u) << "each writes a file of its own";
  first->finish();
  EXPECT_EQ(start(), 2) << "while the other one writes";
  second->finish();
  EXPECT_EQ(start(), 2);
  EXPECT_EQ(num_files(), 1u);
}

TEST_F(PackedCacheTest, WhatIsNeverFinishedLeavesNothing) {
  {
    const auto cache = open();
    cache->keep(pool_, "small", std::as_bytes(std::span(weights_.at("small"))));
  }
  EXPECT_EQ(num_files(), 0u);
  const auto alive = open();
  write(alive->path() + ".partial-1-dead", "of a process that was killed");
  start();
  EXPECT_FALSE(fs::exists(alive->path() + ".partial-1-dead"));
  EXPECT_EQ(num_files(), 2u) << "the whole one, and that of the one still at work";
}

// As weights are in a server: in memory of tensors, of which the large ones are mapped.
class MappedPackedCache : public PackedCacheTest {
 protected:
  Tensor tensor_of(const std::string& key) { return Tensor::zeros(Shape{static_cast<int64_t>(weights_.at(key).size())}, DType::kU8); }
  static std::span<std::byte> bytes_of(Tensor& tensor) {
    return {static_cast<std::byte*>(tensor.raw()), static_cast<size_t>(tensor.nbytes())};
  }
  bool holds(Tensor& tensor, const std::string& key) {
    return std::memcmp(tensor.raw(), weights_.at(key).data(), weights_.at(key).size()) == 0;
  }
};

TEST_F(MappedPackedCache, LargeWeightsAreMappedAndThenMoveWithTheirContents) {
  start();
  Tensor large = tensor_of("large"), small = tensor_of("small");
  std::vector<std::span<std::byte>> mapped;
  {
    const auto cache = open();
    ASSERT_TRUE(cache->read(pool_, "large", bytes_of(large)) && cache->read(pool_, "small", bytes_of(small)));
    mapped = cache->take_mapped();
  }
  EXPECT_TRUE(holds(large, "large") && holds(small, "small"));
  ASSERT_EQ(mapped.size(), 1u);
  EXPECT_EQ(mapped[0].data(), large.raw());
  fs::remove_all(root_ / "packed");  // another start may replace the file while this one still has it mapped
  EXPECT_TRUE(holds(large, "large"));
  MappedWeights(mapped).wait();
  EXPECT_TRUE(holds(large, "large"));
}

TEST_F(MappedPackedCache, DamagedMappedWeightsLeaveMemoryThatCanBeFilled) {
  start();
  std::string bad = read_file(path_);
  bad[5 << 20] = static_cast<char>(bad[5 << 20] ^ 1);
  write(path_, bad);
  Tensor large = tensor_of("large");
  const auto cache = open();
  EXPECT_FALSE(cache->read(pool_, "large", bytes_of(large)));
  EXPECT_TRUE(cache->take_mapped().empty());
  const std::span<std::byte> bytes = bytes_of(large);
  EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; }));
  std::memcpy(large.raw(), weights_.at("large").data(), bytes.size());
  EXPECT_TRUE(holds(large, "large"));
}

TEST_F(MappedPackedCache, WhereNothingMayBeMappedLargeWeightsAreRead) {
  start();
  Tensor large = tensor_of("large");
  PackedCache cache((root_ / "packed").string(), model_.string(), "BF16", PackedCache::Large::kRead);
  ASSERT_TRUE(cache.read(pool_, "large", bytes_of(large)));
  EXPECT_TRUE(holds(large, "large") && cache.take_mapped().empty());
}

TEST_F(PackedCacheTest, ADirectoryThatCannotBeIsNamed) {
  write(root_ / "packed", "a file");
  try {
    open();
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("--packed-cache " + (root_ / "packed").string()), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace weir
