// `weir chat`: a conversation in the terminal with a running server.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iomanip>
#include <sstream>

#include "weir/apps/chat_session.h"
#include "weir/apps/commands.h"
#include "weir/apps/line_editor.h"
#include "weir/apps/terminal.h"
#include "weir/server/http_client.h"

namespace weir {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kDim = "\x1b[2m", kBold = "\x1b[1m", kPlain = "\x1b[0m";
constexpr const char* kHelp =
    "  /reset        forget the conversation\n"
    "  /system TEXT  set the system message and forget the conversation; without TEXT: none\n"
    "  /think on     let the model think before it answers; /think off: it answers at once\n"
    "  /help         this list\n"
    "  /exit         leave (or Ctrl-D)\n"
    "Ctrl-C stops an answer. Alt-Enter starts a new line; a paste may have many. Arrow keys edit and bring back earlier lines.\n";

// Signal handlers can only reach globals: the client whose answer Ctrl-C stops, null while nothing is asked.
std::atomic<HttpClient*> g_asking{nullptr};
static_assert(std::atomic<HttpClient*>::is_always_lock_free);

void on_interrupt(int) {
  if (HttpClient* client = g_asking.load()) client->cancel();
}

// Without SA_RESTART, so that waiting for a line ends too.
void watch_interrupts() {
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
}

class Screen {
 public:
  Screen() {
    const char* term = std::getenv("TERM");
    const bool dumb = term == nullptr || std::string_view(term) == "dumb";
    colours_ = terminal_ && !dumb && std::getenv("NO_COLOR") == nullptr;
  }

  bool terminal() const { return terminal_; }
  bool colours() const { return colours_; }
  void write(std::string_view text) { put(terminal_ ? printable(text) : std::string(text)); }
  void dim(std::string_view text) {
    if (terminal_) put(colours_ ? concat(kDim, printable(text), kPlain) : printable(text));
  }
  void error(std::string_view text) { std::fprintf(stderr, "weir: %s\n", printable(text).c_str()); }
  bool failed() const { return std::ferror(stdout) != 0; }  // nobody reads any more

 private:
  static void put(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
  bool terminal_ = is_terminal(STDOUT_FILENO);
  bool colours_ = false;
};

class Chat {
 public:
  Chat(HttpClient client, ChatSettings settings) : client_(std::move(client)), session_(std::move(settings)) {}

  int run();

 private:
  bool wait_for_server();  // false: Ctrl-C
  void choose_model();
  bool command(const std::string& line);  // false: leave
  bool ask(const std::string& text);      // false: the answer failed
  void show_stats(const ChatStream& stream, Clock::time_point begin, std::optional<Clock::time_point> first, bool stopped);
  template <class Call>
  auto stoppable(const Call& call);  // runs call() while Ctrl-C means cancel()

  HttpClient client_;
  ChatSession session_;
  Screen screen_;
  LineEditor editor_{STDIN_FILENO, STDOUT_FILENO};
};

template <class Call>
auto Chat::stoppable(const Call& call) {
  struct Guard {
    explicit Guard(HttpClient& client) : client_(client) {
      client.clear_cancel();
      g_asking = &client;
    }
    ~Guard() {
      g_asking = nullptr;
      client_.clear_cancel();
    }
    HttpClient& client_;
  } guard(client_);
  return call();
}

bool Chat::wait_for_server() {
  for (bool told = false;; told = true) {
    const HttpResponse health = stoppable([&] { return client_.get("/health"); });
    // Not every OpenAI-compatible server has /health; one that answers at all is up.
    if (health.status != 503) return true;
    if (!told) screen_.dim("waiting for the server to load its model …\n");
    // Sleeping is cut short by Ctrl-C.
    timespec pause{.tv_sec = 0, .tv_nsec = 500'000'000};
    if (::nanosleep(&pause, nullptr) != 0) return false;
  }
}

void Chat::choose_model() {
  const HttpResponse response = stoppable([&] { return client_.get("/v1/models"); });
  if (!response.ok()) fail(ErrorCode::kUnavailable, error_message(response.status, response.body));
  const Json models = parse_json(response.body, "/v1/models");
  const auto data = models.find("data");
  if (data == models.end() || !data->is_array() || data->empty() || !data->front().is_object() || !data->front().contains("id") ||
      !data->front()["id"].is_string())
    fail(ErrorCode::kUnavailable, "the server lists no model; name one with --model");
  session_.settings().model = data->front()["id"].get<std::string>();
}

int Chat::run() {
  watch_interrupts();
  try {
    if (!wait_for_server()) return 0;
    if (session_.settings().model.empty()) choose_model();
  } catch (const Error& error) {
    if (error.code == ErrorCode::kCancelled) return 0;
    if (error.code == ErrorCode::kUnavailable)
      fail(error.code, error.what(), " (start a server with `weir serve MODEL`, or name another with --url)");
    throw;
  }
  if (editor_.interactive()) screen_.dim(concat("talking to ", session_.settings().model, "; /help lists the commands, Ctrl-D leaves\n"));

  bool all_answered = true;
  while (!screen_.failed()) {
    const LineEditor::Result input = editor_.read("> ", screen_.colours() ? kBold : "");
    if (input.outcome == LineEditor::Outcome::kEnd) break;
    if (input.outcome == LineEditor::Outcome::kInterrupted) {
      if (!editor_.interactive()) break;  // a script's Ctrl-C means the script
      screen_.dim("(Ctrl-D or /exit leaves)\n");
      continue;
    }
    if (input.line.find_first_not_of(" \t\n") == std::string::npos) continue;
    if (input.line[0] == '/' && input.line.find('\n') == std::string::npos) {
      if (!command(input.line)) break;
      continue;
    }
    all_answered &= ask(input.line);
    if (!all_answered && !editor_.interactive()) return 1;
  }
  return editor_.interactive() || all_answered ? 0 : 1;
}

bool Chat::command(const std::string& line) {
  const size_t space = std::min(line.find(' '), line.size());
  const std::string name = line.substr(0, space);
  const size_t begin = line.find_first_not_of(' ', space);
  const std::string rest = begin == std::string::npos ? "" : line.substr(begin);
  if (name == "/exit" || name == "/quit") return false;
  if (name == "/reset") {
    session_.reset();
    screen_.dim("conversation forgotten\n");
  } else if (name == "/system") {
    session_.settings().system = rest;
    session_.reset();
    screen_.dim(rest.empty() ? "no system message; conversation forgotten\n" : "system message set; conversation forgotten\n");
  } else if (name == "/think" && (rest == "on" || rest == "off")) {
    session_.settings().thinking = rest == "on";
    screen_.dim(concat("thinking ", rest, "\n"));
  } else if (name == "/think") {
    screen_.error(concat("/think takes on or off, got \"", rest, "\""));
  } else if (name == "/help") {
    screen_.write(kHelp);
  } else {
    screen_.error(concat("unknown command ", name, "; /help lists them"));
  }
  return true;
}

bool Chat::ask(const std::string& text) {
  session_.ask(text);
  ChatStream stream;
  std::string answer;
  bool thinking_shown = false, ends_in_newline = true;
  const Clock::time_point begin = Clock::now();
  std::optional<Clock::time_point> first;
  const auto show = [&](const ChatStream::Delta& delta) {
    if (!first && !(delta.reasoning.empty() && delta.content.empty())) first = Clock::now();
    if (!delta.reasoning.empty()) {
      screen_.dim(delta.reasoning);
      thinking_shown = screen_.terminal();
      ends_in_newline = delta.reasoning.back() == '\n';
    }
    std::string_view content = delta.content;
    if (answer.empty()) content.remove_prefix(std::min(content.find_first_not_of('\n'), content.size()));  // left over behind </think>
    if (content.empty()) return;
    if (thinking_shown) screen_.write(ends_in_newline ? "\n" : "\n\n");
    thinking_shown = false;
    answer += content;
    screen_.write(content);
    ends_in_newline = content.back() == '\n';
  };

  bool stopped = false;
  std::string failure;
  try {
    const HttpResponse response = stoppable([&] {
      return client_.post_stream("/v1/chat/completions", session_.request_body(), [&](std::string_view line) {
        show(stream.push(line));
        return !stream.done() && !screen_.failed();
      });
    });
    if (!response.ok())
      failure = error_message(response.status, response.body);
    else if (!stream.done() && !screen_.failed())
      failure = "the answer ended early: the server closed the connection";
  } catch (const Error& error) {
    if (error.code == ErrorCode::kCancelled)
      stopped = true;
    else
      failure = error.what();
  }
  show(stream.finish());
  if (!ends_in_newline) screen_.write("\n");
  session_.answered(answer);
  if (!failure.empty())
    screen_.error(failure);
  else
    show_stats(stream, begin, first, stopped);
  return failure.empty();
}

void Chat::show_stats(const ChatStream& stream, Clock::time_point begin, std::optional<Clock::time_point> first, bool stopped) {
  const Clock::time_point end = Clock::now();
  std::ostringstream out;
  out << std::fixed << '[';
  if (stopped) out << "stopped" << (first ? ", " : "");
  if (first) {
    const std::chrono::duration<double> to_first = *first - begin, rest = end - *first;
    const int64_t tokens = stream.completion_tokens().value_or(0);
    if (tokens > 0) out << tokens << (tokens == 1 ? " token, " : " tokens, ");
    if (tokens > 1 && rest.count() > 0) out << std::setprecision(1) << static_cast<double>(tokens - 1) / rest.count() << " tokens/s, ";
    out << "first after " << std::setprecision(2) << to_first.count() << " s";
  } else if (!stopped) {
    out << "empty answer";
  }
  if (stream.finish_reason() == "length") out << ", cut at the most tokens allowed";
  out << "]\n";
  screen_.dim(out.str());
}

}  // namespace

const CommandSpec& chat_command() {
  static const CommandSpec command = {
      .name = "chat",
      .summary = "Talks to a running server in the terminal.",
      .positionals = {},
      .flags =
          {
              {.name = "url", .group = "Server", .help = "Address of the server.", .fallback = "http://127.0.0.1:8000"},
              {.name = "api-key", .group = "Server", .help = "Key to bring (also from VLLM_API_KEY or OPENAI_API_KEY)."},
              {.name = "model", .group = "Server", .help = "Model to talk to. Not given: the first one that the server lists."},

              {.name = "system", .group = "Conversation", .help = "System message."},
              {.name = "thinking",
               .type = FlagType::kBool,
               .group = "Conversation",
               .help = "Let the model think before it answers, or not. Not given: the template's choice."},
              {.name = "max-tokens",
               .type = FlagType::kCount,
               .group = "Conversation",
               .help = "Most tokens of an answer, thoughts included.",
               .min = 1},
              {.name = "temperature",
               .type = FlagType::kNumber,
               .group = "Conversation",
               .help = "0 is greedy. This and the next: not given, the server's setting.",
               .min = 0},
              {.name = "top-p",
               .type = FlagType::kNumber,
               .group = "Conversation",
               .help = "Draw from the most likely tokens of this total probability.",
               .min = 0,
               .max = 1},
              {.name = "top-k",
               .type = FlagType::kInt,
               .group = "Conversation",
               .help = "Draw from this many most likely tokens.",
               .min = -1},
              {.name = "seed",
               .type = FlagType::kInt,
               .group = "Conversation",
               .help = "The same draws for the same conversation.",
               .min = 0},
          },
      .epilogue = concat("\nin the conversation\n", kHelp),
  };
  return command;
}

int run_chat(std::span<const std::string> args) {
  const auto flags = parse_or_help(chat_command(), args);
  if (!flags) return 0;
  std::string key = flags->find_text("api-key").value_or("");
  for (const char* variable : {"VLLM_API_KEY", "OPENAI_API_KEY"})
    if (const char* value = std::getenv(variable); key.empty() && value != nullptr) key = value;
  ChatSettings settings{.model = flags->find_text("model").value_or(""),
                        .system = flags->find_text("system").value_or(""),
                        .thinking = flags->find_boolean("thinking"),
                        .temperature = flags->find_number("temperature"),
                        .top_p = flags->find_number("top-p"),
                        .top_k = flags->find_integer("top-k"),
                        .max_tokens = flags->find_integer("max-tokens"),
                        .seed = flags->find_integer("seed")};
  return Chat(HttpClient(flags->text("url"), std::move(key)), std::move(settings)).run();
}

}  // namespace weir
