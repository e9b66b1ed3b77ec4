#include "weir/runtime/tier_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "weir/base/error.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

// A directory that is gone after the test.
struct Folder {
  std::string path = (fs::temp_directory_path() / ("weir-tier-test-" + std::to_string(std::random_device{}()))).string();
  ~Folder() { fs::remove_all(path); }
};

TierConfig config_of(int64_t capacity, std::string dir = {}, bool keep = false) {
  return {.capacity = capacity, .dir = std::move(dir), .keep = keep, .fingerprint = "f00d", .page_bytes = 4096, .state_bytes = 65536};
}

TierEntry entry(uint64_t id, TierLabel::Kind kind = TierLabel::Kind::kPage) {
  TierLabel label{kind, {id, ~id}, {}, std::nullopt};
  label.tokens.fill(static_cast<Token>(id));
  if (kind == TierLabel::Kind::kState) label.before = PageKey{id + 1000, id};
  return {TierId{id}, label};
}

std::vector<std::byte> content(uint64_t id, size_t size) {
  std::mt19937 rng(static_cast<uint32_t>(id));
  std::vector<std::byte> out(size);
  for (std::byte& byte : out) byte = static_cast<std::byte>(rng());
  return out;
}

std::vector<std::byte> content(const TierEntry& e) { return content(index(e.id), e.label.kind == TierLabel::Kind::kPage ? 4096 : 65536); }

std::optional<std::vector<std::byte>> fetch(TierStore& store, TierId id) {
  store.fetch(id);
  for (;;) {
    const TierEvents events = store.events(/*wait=*/true);
    if (std::count(events.fetched.begin(), events.fetched.end(), id)) return store.take(id);
    if (std::count(events.lost.begin(), events.lost.end(), id)) return std::nullopt;
  }
}

class TierPlaces : public testing::TestWithParam<bool> {};

TEST_P(TierPlaces, GivesBackWhatWasSavedByteForByte) {
  const Folder folder;
  TierStore store(config_of(1 << 20, GetParam() ? folder.path : ""));
  for (uint64_t id = 0; id < 10; ++id) {
    const TierEntry e = entry(id, id % 3 == 0 ? TierLabel::Kind::kState : TierLabel::Kind::kPage);
    store.save(e, content(e), /*must=*/false);
  }
  for (uint64_t id = 10; id-- > 0;) {
    const TierEntry e = entry(id, id % 3 == 0 ? TierLabel::Kind::kState : TierLabel::Kind::kPage);
    EXPECT_EQ(fetch(store, e.id), content(e)) << id;
    EXPECT_EQ(store.take(e.id), std::nullopt) << "once per fetch";
  }
  EXPECT_EQ(fetch(store, TierId{77}), std::nullopt);
  if (GetParam()) {
    EXPECT_TRUE(fs::is_empty(folder.path)) << "files without a name vanish with the process";
  }
}

TEST_P(TierPlaces, TheOldestGoWhenItIsFull) {
  const Folder folder;
  TierStore store(config_of(512 << 10, GetParam() ? folder.path : ""));
  for (uint64_t id = 0; id < 400; ++id) store.save(entry(id), content(entry(id)), /*must=*/true);
  EXPECT_EQ(fetch(store, TierId{399}), content(entry(399)));
  EXPECT_LE(store.events(false).bytes_used, 512 << 10);
  EXPECT_EQ(fetch(store, TierId{0}), std::nullopt);
  store.forget_all();
  EXPECT_EQ(fetch(store, TierId{399}), std::nullopt);
  EXPECT_EQ(store.events(false).bytes_used, 0);
}

INSTANTIATE_TEST_SUITE_P(Tier, TierPlaces, testing::Bool(), [](const auto& test) { return test.param ? "files" : "memory"; });

TEST(TierStore, WhatIsKeptIsFoundByTheNextRun) {
  const Folder folder;
  uint64_t secret = 0;
  {
    TierStore store(config_of(1 << 20, folder.path, true));
    secret = store.secret();
    EXPECT_TRUE(store.found().empty());
    EXPECT_THROW(TierStore(config_of(1 << 20, folder.path, true)), Error) << "one server per directory";
    store.save(entry(5), content(entry(5)), false);
    store.save(entry(6, TierLabel::Kind::kState), content(entry(6, TierLabel::Kind::kState)), false);
  }
  TierStore store(config_of(1 << 20, folder.path, true));
  EXPECT_EQ(store.secret(), secret);
  ASSERT_EQ(store.found().size(), 2u);
  EXPECT_EQ(store.found()[0].label, entry(5).label);
  EXPECT_EQ(store.found()[1].label, entry(6, TierLabel::Kind::kState).label);
  EXPECT_EQ(fetch(store, store.found()[1].id), content(entry(6, TierLabel::Kind::kState)));

  TierConfig other = config_of(1 << 20, folder.path, true);
  other.fingerprint = "beef";
  EXPECT_TRUE(TierStore(other).found().empty()) << "of another model";
}

TEST(TierStore, ADamagedFileLosesEntriesAndNothingElse) {
  std::mt19937 rng(1);
  for (int round = 0; round < 40; ++round) {
    const Folder folder;
    {
      TierStore store(config_of(1 << 20, folder.path, true));
      for (uint64_t id = 0; id < 20; ++id) store.save(entry(id), content(entry(id)), true);
    }
    for (const auto& file : fs::directory_iterator(folder.path + "/f00d")) {
      if (!file.path().filename().string().starts_with("segment-")) continue;
      const auto size = static_cast<int64_t>(file.file_size());
      if (round % 4 == 0) {
        fs::resize_file(file.path(), static_cast<uintmax_t>(size) * (rng() % 100) / 100);
        continue;
      }
      std::fstream stream(file.path(), std::ios::in | std::ios::out | std::ios::binary);
      for (int i = 0; i < 3; ++i) {
        stream.seekp(static_cast<int64_t>(rng()) % size);
        stream.put(static_cast<char>(rng()));
      }
    }
    TierStore store(config_of(1 << 20, folder.path, true));
    for (const TierEntry& found : store.found()) {
      const auto bytes = fetch(store, found.id);
      if (bytes) {
        EXPECT_EQ(*bytes, content(found.label.key.a, 4096)) << "round " << round;
      }
    }
  }
}

TEST(TierStore, NamesTheFlagToChange) {
  const auto message = [](const TierConfig& config) -> std::string {
    try {
      TierStore store(config);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message(config_of(1000)).find("--kv-offload-size must be at least 262144 bytes"), std::string::npos);
  EXPECT_NE(message(config_of(1 << 20, "/proc/nowhere")).find("--kv-offload-dir /proc/nowhere"), std::string::npos);
}

}  // namespace
}  // namespace weir
