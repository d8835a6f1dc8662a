// Runs one launch: reads it from standard input, writes the buffers a kernel may change to standard output.
//
//   u32 name length, name, u32 grid x, grid y, threads, shared bytes, order; then for each parameter of the kernel in
//   order u32 bytes and the bytes: those of a buffer if it is a pointer, those of the value otherwise
#include "kernels.inc"

#include <string>
#include <tuple>
#include <type_traits>

static std::vector<char> read_bytes(size_t count) {
    std::vector<char> bytes(count);
    if (fread(bytes.data(), 1, count, stdin) != count) {
        emulator::fail("the input ends early");
    }
    return bytes;
}

static unsigned read_number() {
    unsigned number;
    memcpy(&number, read_bytes(sizeof number).data(), sizeof number);
    return number;
}

// A parameter passed by value.
template <class T>
struct Argument {
    T value;
    Argument() {
        if (read_number() != sizeof(T)) {
            emulator::fail("a value has another size than its parameter");
        }
        memcpy(&value, read_bytes(sizeof(T)).data(), sizeof(T));
    }
    T get() { return value; }
    void finish() {}
};

// A buffer, followed by a guard; sent back if it is not constant.
template <class T>
struct Argument<T*> {
    size_t count;
    std::vector<char> bytes;
    Argument() : count(read_number()), bytes(read_bytes(count)) { bytes.resize(count + emulator::GUARD, (char)0xA5); }
    T* get() { return (T*)bytes.data(); }
    void finish() {
        for (size_t i = 0; i < emulator::GUARD; ++i) {
            if (bytes[count + i] != (char)0xA5) {
                emulator::fail("a kernel wrote beyond a buffer");
            }
        }
        if (!std::is_const<T>::value) {
            fwrite(bytes.data(), 1, count, stdout);
        }
    }
};

template <class... A>
static void run(void (*kernel)(A...)) {
    unsigned x = read_number(), y = read_number(), threads = read_number(), shared = read_number();
    auto order = (emulator::Order)read_number();
    // Braces: arguments are read in order.
    std::tuple<Argument<A>...> arguments{(Argument<A>())...};
    auto call = [&] { std::apply([&](auto&... argument) { kernel(argument.get()...); }, arguments); };
    emulator::launch({x, y, 1}, threads, shared, order, call);
    std::apply([](auto&... argument) { (argument.finish(), ...); }, arguments);
}

int main() {
    std::vector<char> bytes = read_bytes(read_number());
    std::string name(bytes.begin(), bytes.end());
#define ENTRY(kernel) \
    if (name == #kernel) { \
        run(kernel); \
        return 0; \
    }
    ENTRIES
    emulator::fail("there is no kernel of this name");
}
