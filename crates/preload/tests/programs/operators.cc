/* C++'s operators come through malloc. */
#include <cstdint>
#include <cstdio>
#include <map>
#include <new>
#include <string>
#include <vector>

struct alignas(4096) Page {
    char bytes[4096];
};

int main() {
    std::map<int, std::string> words;
    for (int i = 0; i < 100000; i++) words[i] = std::string(static_cast<size_t>(i % 300), 'w');
    for (int i = 0; i < 100000; i += 2) words.erase(i);
    std::vector<char> large(50 << 20, 'v');
    large.resize(90 << 20);
    Page *page = new Page;
    bool good = words.size() == 50000 && words[101].size() == 101 && large[0] == 'v'
        && large[60 << 20] == 0 && reinterpret_cast<std::uintptr_t>(page) % 4096 == 0;
    delete page;
    try {
        volatile std::size_t all = SIZE_MAX / 2;
        char *volatile bytes = new char[all];
        good = bytes == nullptr;
        delete[] bytes;
    } catch (const std::bad_alloc &) {
    }
    std::printf("%s operators\n", good ? "ok" : "FAIL");
    return good ? 0 : 1;
}
