/* Stands in for NVIDIA's libnvidia-ml.so.1 on a machine without it: two GPUs, the second partitioned.
 *
 * Signatures: nvml.h of the CUDA toolkit. What the test waits for is left as files in BDH_TEST_CHILD. */
#include <stdio.h>
#include <stdlib.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3 };

typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;

static int gpus[2];

static void mark(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("BDH_TEST_CHILD"), name);
    FILE *file = fopen(path, "w");
    if (file) fclose(file);
}

int nvmlInit_v2(void) { mark("opened"); return SUCCESS; }
int nvmlShutdown(void) { mark("closed"); return SUCCESS; }
const char *nvmlErrorString(int code) { (void)code; return "stand-in"; }

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    snprintf(version, length, "575.57.08");
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, int **device) {
    *device = &gpus[index];
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(int *device, utilization *rates) {
    if (device == &gpus[1]) return NOT_SUPPORTED;
    rates->gpu = 37;
    rates->memory = 0;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(int *device, memory_v2 *memory) {
    memory->total = 4096ULL << 20;
    memory->used = (device == &gpus[0] ? 1024ULL : 512ULL) << 20;
    memory->free = memory->total - memory->used;
    memory->reserved = 0;
    return SUCCESS;
}
